"""A chat of five turns with the embedded model, for the tests of the cache that is kept between turns."""

QUESTIONS = [
    "What is a token?",
    "What does a router do?",
    "What is an expert?",
    "What is attention?",
    "And why?",
]
