"""An intake that hands over to a nurse, and goes on when she gives the chat back."""
