"""Small videos of all the kinds that people have, made by the ffmpeg of imageio-ffmpeg."""

import subprocess
from pathlib import Path

# Real ones, of the test data.
CLIPS = ('arm_wrestling.mp4', 'basketball.mp4', 'pool.mp4', 'pool_32frames.mp4')

SIZE = '96x64'
RATE, FRAMES = 25, 40


def source(size: str = SIZE, frames: int = FRAMES, rate: int = RATE) -> list[str]:
    """Arguments for a moving test picture."""
    pattern = f'testsrc2=size={size}:rate={rate}:duration={frames / rate}'
    return ['-f', 'lavfi', '-i', pattern]


X264 = ['-c:v', 'libx264', '-preset', 'veryfast', '-pix_fmt', 'yuv420p']
X265 = ['-c:v', 'libx265', '-preset', 'ultrafast', '-x265-params']
SVT = ['-c:v', 'libsvtav1', '-preset', '12', '-svtav1-params', 'lp=1']
VPX = ['-b:v', '100k', '-auto-alt-ref', '1', '-lag-in-frames', '16', '-deadline', 'realtime']
EVERY_THIRD = ['-vf', "select='not(mod(n,3))'", '-fps_mode', 'vfr']
PLAIN = ['-i', 'plain.mp4']
CUT = ['-ss', '0.9', *PLAIN, '-c', 'copy']
SOUND = ['-f', 'lavfi', '-i', 'sine=duration=3']

# Name of each file, and the arguments that make it. Later ones may be made of earlier ones.
RECIPES: dict[str, list[str]] = {
    'plain.mp4': [*source(), *X264, '-g', '12'],
    # which way up
    'rotated_90.mp4': ['-display_rotation', '90', *PLAIN, '-c', 'copy'],
    'rotated_180.mp4': ['-display_rotation', '180', *PLAIN, '-c', 'copy'],
    'rotated_270.mp4': ['-display_rotation', '270', *PLAIN, '-c', 'copy'],
    # times
    'variable_rate.mp4': [*source(), *EVERY_THIRD, *X264],
    'edit_list.mp4': [*CUT],
    'edit_list_with_sound.mp4': ['-ss', '0.9', '-i', 'with_sound.mp4', '-c', 'copy'],
    'negative_times.mkv': [*CUT, '-avoid_negative_ts', 'disabled'],
    'late.mkv': ['-itsoffset', '100', *PLAIN, '-c', 'copy'],
    'dropped.avi': [*source(), *EVERY_THIRD, '-c:v', 'mpeg4'],
    'raw.h264': [*source(), *X264],
    # key frames
    'open_gop.mp4': [*source(), *X264, '-x264-params', 'open-gop=1:keyint=12:bframes=3'],
    'open_gop_hevc.mp4': [*source(), *X265, 'log-level=none:open-gop=1:keyint=12'],
    'intra_refresh.mp4': [*source(), *X264, '-x264-params', 'intra-refresh=1:keyint=12'],
    'one_key_frame.mp4': [*source(frames=200), *X264, '-g', '9999', '-preset', 'ultrafast'],
    'intra_only.mp4': [*source(), *X264, '-g', '1'],
    # containers and codecs
    'b_frames.avi': [*source(), *X264],
    'xvid.avi': [*source(), '-c:v', 'libxvid', '-bf', '2'],
    'mpeg4.avi': [*source(), '-c:v', 'mpeg4', '-bf', '2'],
    'mjpeg.avi': [*source(), '-c:v', 'mjpeg', '-q:v', '3'],
    'uncompressed.avi': [*source(), '-c:v', 'rawvideo', '-pix_fmt', 'yuv420p'],
    'wmv2.wmv': [*source(), '-c:v', 'wmv2'],
    'vp8.webm': [*source(), '-c:v', 'libvpx', *VPX],
    'vp9.webm': [*source(), '-c:v', 'libvpx-vp9', *VPX],
    'vp9_alpha.webm': [*source(), '-c:v', 'libvpx-vp9', '-pix_fmt', 'yuva420p', *VPX],
    'av1.mp4': [*source(), *SVT],
    'av1.webm': [*source(), *SVT],
    'animation.gif': [*source()],
    'mpeg2.mpg': [*source(), '-c:v', 'mpeg2video', '-bf', '2'],
    'mpeg1.mpg': [*source(), '-c:v', 'mpeg1video'],
    'mpeg2.ts': [*source(), '-c:v', 'mpeg2video', '-bf', '2'],
    'h264.ts': [*source(), *X264],
    'h264.mkv': [*source(), *X264],
    'flash.flv': [*source(), '-c:v', 'flv'],
    'h263.3gp': [*source('176x144', rate=15), '-c:v', 'h263'],
    'ffv1.mkv': [*source(), '-c:v', 'ffv1'],
    'theora.ogv': [*source(), '-c:v', 'libtheora'],
    'prores.mov': [*source(), '-c:v', 'prores'],
    'fragmented.mp4': [*source(), *X264, '-movflags', '+frag_keyframe+empty_moov', '-g', '12'],
    'streamed.mkv': [*source(), *X264, '-f', 'matroska', 'pipe:1'],
    'live.webm': [*source(), '-c:v', 'libvpx', '-b:v', '200k', '-live', '1', 'pipe:1'],
    # pixels and sizes
    'ten_bits.mp4': [*source(), *X264, '-pix_fmt', 'yuv420p10le'],
    'ten_bits_hevc.mp4': [*source(), *X265, 'log-level=none', '-pix_fmt', 'yuv420p10le'],
    'full_chroma.mp4': [*source(), *X264, '-pix_fmt', 'yuv444p'],
    'gray.mp4': [*source(), *X264, '-pix_fmt', 'gray'],
    'rgb.mp4': [*source(), '-c:v', 'libx264rgb', '-pix_fmt', 'rgb24'],
    'full_range.mp4': [*source(), *X264, '-vf', 'scale=out_range=pc', '-color_range', 'pc'],
    'bt709.mp4': [*source(), '-vf', 'scale=out_color_matrix=bt709', *X264, '-colorspace', 'bt709'],
    'odd_size.mp4': [*source(), '-vf', 'crop=95:63:exact=1', *X264, '-pix_fmt', 'yuv444p'],
    'odd_size.webm': [*source(), '-vf', 'crop=95:63:exact=1', '-c:v', 'libvpx-vp9', *VPX],
    'tiny.avi': [*source('16x12'), '-c:v', 'mpeg4'],
    'wide_pixels.mp4': [*source(), '-vf', 'setsar=16/15', *X264],
    'interlaced.mpg': [*source(), '-c:v', 'mpeg2video', '-flags', '+ilme+ildct'],
    # streams
    'with_sound.mp4': [*SOUND, *source(), *X264, '-g', '12'],
    'cover.png': [*PLAIN, '-frames:v', '1'],
    'cover_first.mkv': [*PLAIN, '-i', 'cover.png', '-map', '1', '-map', '0', '-c', 'copy']
    + ['-disposition:v:0', 'attached_pic'],
    'cover.mp4': [*PLAIN, '-i', 'cover.png', '-map', '0', '-map', '1', '-c', 'copy']
    + ['-disposition:v:1', 'attached_pic'],
    'song.mp4': [*SOUND, '-i', 'cover.png', '-map', '0', '-map', '1', '-c:v', 'copy']
    + ['-disposition:v:0', 'attached_pic'],
    'two_films.mp4': [*source('64x48', 50), *source('160x96', 20, 10), '-map', '0', '-map', '1']
    + X264,
    'one_frame.mp4': [*source(frames=1), *X264],
    'one_frame.avi': [*source(frames=1), '-c:v', 'mpeg4'],
}
ORDER = ['plain.mp4', 'with_sound.mp4', 'cover.png']
ORDER += [name for name in RECIPES if name not in ORDER]

# Names that are passed on to C code, with blanks and all that.
NAMES = (
    'blank (31).mp4',
    'ünïcødé_视频.mp4',
    'hash#%20?&.mp4',
    'a:b.mp4',
    'UPPER.MP4',
    'no_ending',
)
NAMES += ('caf\udce9.mp4',)  # bytes that are not UTF-8, as from old archives

HIDDEN = 'vp8_hidden.webm'
NOT_UTF8_TAG = 'tag_not_utf8.avi'
TWO_SIZES = 'two_sizes.h264'
MORE = (*NAMES, HIDDEN, NOT_UTF8_TAG, TWO_SIZES)
VIDEOS = [name for name in RECIPES if name not in ('cover.png', 'song.mp4')] + [*MORE]


def make(folder: Path, ffmpeg: str) -> list[str]:
    """Make them all.

    Returns:
        Names of the files, of those recipes that this build of ffmpeg has the encoders for.
    """
    made = [name for name in ORDER if _run(folder, ffmpeg, RECIPES[name], name)]
    plain = (folder / 'plain.mp4').read_bytes()
    for name in NAMES:
        (folder / name).write_bytes(plain)
    vp8 = [*source(frames=75), '-c:v', 'libvpx', '-b:v', '60k', '-lag-in-frames', '25']
    for number in ('1', '2'):
        twice = ['-auto-alt-ref', '1', '-pass', number, '-passlogfile', 'vp8']
        _run(folder, ffmpeg, [*vp8, *twice], HIDDEN)
    tag = ['-c:v', 'mpeg4', '-metadata', 'title=PLACEHOLDERX']
    _run(folder, ffmpeg, [*source(), *tag], NOT_UTF8_TAG)
    path = folder / NOT_UTF8_TAG
    path.write_bytes(path.read_bytes().replace(b'PLACEHOLDERX', b'caf\x8c\xff' + b'x' * 7))
    _run(folder, ffmpeg, [*source('64x48'), *X264], 'small.h264')
    both = (folder / 'raw.h264').read_bytes() + (folder / 'small.h264').read_bytes()
    (folder / TWO_SIZES).write_bytes(both)
    return [*made, *(name for name in MORE if (folder / name).stat().st_size)]


def _run(folder: Path, ffmpeg: str, arguments: list[str], name: str) -> bool:
    """Whether a file was made."""
    piped = arguments[-1] == 'pipe:1'
    if piped and '-f' not in arguments[4:]:
        arguments = [*arguments[:-1], '-f', 'webm', 'pipe:1']
    command = [ffmpeg, '-nostdin', '-v', 'quiet', '-y', '-threads', '1', *arguments]
    command += ['-bitexact'] * (not piped) + [name] * (not piped)
    result = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE)
    if piped:
        (folder / name).write_bytes(result.stdout)
    return result.returncode == 0 and (folder / name).stat().st_size > 0
