"""Who may do what: tokens, their roles and projects, limits of rate."""
