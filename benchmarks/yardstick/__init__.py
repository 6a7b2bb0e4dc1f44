"""Small networks whose exact posterior is known by long runs, and how near a method comes to it."""
