"""Single subjects: their maps and time courses of the group's components, and what recurs in them."""

from .dual_regression import dual_regression
from .individual import individual_components
from .recurrence import recurrence
from .time_courses import network_time_courses

__all__ = ["dual_regression", "individual_components", "network_time_courses", "recurrence"]
