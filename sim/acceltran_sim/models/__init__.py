"""Loading models, and the model that ships with the project."""
