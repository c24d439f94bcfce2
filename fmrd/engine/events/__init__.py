"""What happens is told here, once, to whoever wants to hear of it: clients, the history, the journal, hooks."""
