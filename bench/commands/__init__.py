"""The commands of `bench`, thin and without logic, by what they are about."""
