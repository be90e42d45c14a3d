"""IVRNN: the improved conditional variational recurrent network of Castrejon, Ballas and Courville (ICCV 2019)."""
