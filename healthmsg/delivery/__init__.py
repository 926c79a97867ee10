"""Whether a message was delivered: the rule by which that is judged, and what it is learnt from."""
