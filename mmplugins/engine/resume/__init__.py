"""A training that is stopped at any moment, and goes on as if it had never been."""
