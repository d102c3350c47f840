"""The desks: pages for operators, stewards of partners, banks and policy teams, over the rights of their own logins."""
