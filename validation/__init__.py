"""Does a TransformerLens tree compute Llama 3.1 as Hugging Face `transformers` does?"""
