"""Checks of the exercises: each says whether an answer is right and, if not, why not and what to look at.

One module for each notebook, with a function `check_...` for each exercise. A check never gives the answer
away, never raises because of what a learner typed, and prints one or two sentences:

    check_kv_cache(my_answer)
    Not yet: 786,432 bytes is four times too much. Do all query heads have keys and values of their own?
"""

from helpers.exercises.verdict import WrongAnswerError, verdict

__all__ = ["WrongAnswerError", "verdict"]
