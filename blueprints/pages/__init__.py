"""Pages for mentees."""
