"""`python -m helpers.start` in the environment of the tests: browser or none, taken ports, other servers, errors."""
