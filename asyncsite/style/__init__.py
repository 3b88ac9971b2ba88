"""The page ``/style/`` in development: the tokens of the design and every part of the pages in all its states."""
