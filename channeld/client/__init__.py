"""For content servers in Python: ask, verify, keep the best claim."""
