"""What the mentorado sees: months, goals, score. Numbers and rules, no web."""
