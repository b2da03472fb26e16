"""HTTP for stores: requests, with the time limits, strictness and speed that it lacks."""
