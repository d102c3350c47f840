"""Great Expectations: rules of batches and marts, and the pages of their results."""
