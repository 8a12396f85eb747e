"""The values of a mentee's dashboard: months, goals, score, chart. No web code."""
