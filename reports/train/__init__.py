"""Fine-tuning by a published recipe, in steps that can be taken up again."""
