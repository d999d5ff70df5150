"""`inv doctor`: is everything there that a run will need, from this laptop to the account behind
the boxes?"""
