"""The wire's vocabulary as pure functions, shared by client and server: URLs, ranges, problems."""
