"""Motion-correlation heatmaps (figure 5 of the paper): maps, places, files, figures, scores."""
