"""Development only: a stand-in for Clerk, PostgreSQL and demo data; production never imports it."""
