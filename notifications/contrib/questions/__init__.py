"""Questions that jobs ask people. ``apps.py`` says what belongs to it."""

from notifications.contrib.questions.asking import Question, aquestion, aquestions, question, questions

__all__ = ["Question", "aquestion", "aquestions", "question", "questions"]
