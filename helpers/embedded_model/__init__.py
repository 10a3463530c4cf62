"""The toy mixture-of-experts chat model that is shipped with the course, and the scripts that made it."""
