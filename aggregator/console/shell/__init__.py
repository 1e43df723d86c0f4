"""What every route of the console stands on: templates, static files, headers, errors, forms, confirmation."""
