"""Questions that jobs ask people. ``apps.py`` says what belongs to it."""

from notifications.contrib.questions.answers import (
    Answer,
    QuestionInfo,
    aanswer,
    answer,
    aopen_questions,
    open_questions,
)
from notifications.contrib.questions.asking import Question, aquestion, aquestions, question, questions

__all__ = [
    "Answer",
    "Question",
    "QuestionInfo",
    "aanswer",
    "answer",
    "aopen_questions",
    "aquestion",
    "aquestions",
    "open_questions",
    "question",
    "questions",
]
