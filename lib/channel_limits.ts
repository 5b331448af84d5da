/** How many channels there may be, and for how long one waits. */

/** What is limited. */
export interface ChannelLimits {
  /** Of one client. */
  channels: number;
  /**
   * How many channels and listeners all clients share, sessions beside: sshd usually has 1,024 file
   * descriptors for one connection; a forwarded connection takes one, a listener one or two, a
   * session some.
   */
  allChannels: number;
  /** How long a CHANNEL_OPEN waits for upstream, or for a free session there, in milliseconds. */
  openTimeoutMs: number;
  /** How many sessions upstream allows at a time, where it is known beforehand. */
  sessions: number;
  /** Whether a session is opened upstream before a client wants it. */
  warm: boolean;
  /** How much of each session's window is kept for lines of ours, in bytes. */
  noticeBytes: number;
  /** What upstream may send ahead of a client's window before that has proved to read on, in bytes. */
  aheadBytes: number;
}

/** What holds where nothing else is said. */
export const usualLimits: ChannelLimits = {
  channels: 1000,
  allChannels: 960,
  openTimeoutMs: 30_000,
  sessions: Infinity,
  warm: false,
  noticeBytes: 0,
  aheadBytes: 0,
};
