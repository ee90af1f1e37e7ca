"""Pictures as the codecs give them: planar Y'CbCr with halved chroma, and the way to R'G'B' and back."""
