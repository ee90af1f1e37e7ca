"""Programmes that come and go by file, RTMP, RTSP, HLS, SRT and WHIP push."""
