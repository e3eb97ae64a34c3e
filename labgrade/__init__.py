"""For staff: grading a class, a gallery of broken Rafts as proof, and what students are handed. Never handed out."""
