"""Routes: each module serves one area of the pages, the JSON API or the admin console."""
