"""The declarative files that ship with the service: catalogue, model, terms, texts."""
