"""What an evaluation will cost before it is started: hours, memory, disk."""
