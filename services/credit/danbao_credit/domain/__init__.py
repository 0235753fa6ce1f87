"""What credit is: facts, profiles, indicators, scores, terms. Pure: no wire, no store, no clock."""
