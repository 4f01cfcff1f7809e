"""Fine-tuning by a published recipe, which can be interrupted and resumed."""
