"""The simulated world: potted plants and clothed people, moved by physics, with exact flow and true pokes."""
