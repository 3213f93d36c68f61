"""Using a trained model: recordings -> embeddings, decisions; calibrated, fine-tuned, published.

`speaker_model` and `waveforms` need torch, torchaudio, numpy, safetensors and soundfile alone, so
that torch.hub can load them without the rest.
"""
