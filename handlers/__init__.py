"""The handlers this project brings; importing a module here registers its handlers and loads nothing heavy."""
