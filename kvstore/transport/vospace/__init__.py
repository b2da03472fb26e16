"""VOSpace 2.1 as a dialect: a space of nodes as a store."""
