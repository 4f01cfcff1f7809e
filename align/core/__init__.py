"""Two models compared, whatever they are: points, figures, bounds, judgement. Pure."""
