"""The types of questions: pure, without I/O and without a clock."""
