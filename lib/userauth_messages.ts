/** Message numbers around authentication (RFC 4250, section 4.1.2), on either side. */

export const serviceRequest = 5;
export const serviceAccept = 6;
export const userauthRequest = 50;
export const userauthFailure = 51;
export const userauthSuccess = 52;
export const userauthBanner = 53;

/** From here on up to the connection protocol's they mean what the method makes of them. */
export const firstMethodMessage = 60;

/** Messages of the connection protocol begin here (RFC 4250, section 4.1.1). */
export const firstConnectionMessage = 80;
