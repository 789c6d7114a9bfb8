"""How good are they, and how were they made: measures, reports, recipes."""
