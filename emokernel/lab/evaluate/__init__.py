"""The experiments: does steering bring the emotion that was asked for, and what does it cost?"""
