"""What methods are made of: layers, scores, losses, schedules and distillation."""
