"""Figures: from stored records and logs of trainings; methods are asked again for strips and dose responses alone."""
