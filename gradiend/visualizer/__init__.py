"""Results → figures. matplotlib is needed only when a plot is drawn."""

from gradiend.visualizer.convergence import plot_training_convergence
from gradiend.visualizer.encoder_distributions import plot_encoder_distributions
from gradiend.visualizer.probability_shifts import plot_probability_shifts
from gradiend.visualizer.visualizer import Visualizer

__all__ = ["Visualizer", "plot_encoder_distributions", "plot_probability_shifts", "plot_training_convergence"]
