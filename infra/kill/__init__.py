"""The kill campaign: `infera up` killed with -9 under load, and an independent checker over what is left."""
