// The input that is open, and those there are.
import { useEffect, useState } from "preact/hooks";
import { type Choice, capture, captureProblem, devices } from "../webrtc/capture";

export interface Inputs {
  audio: MediaDeviceInfo[];
  video: MediaDeviceInfo[];
}

export interface Capture {
  /** What is open. */
  media: MediaStream | undefined;
  /** Why nothing is, or is not any more. */
  fault: string | undefined;
  inputs: Inputs;
  /** Opens another input in place of the one there is; undefined, and a fault, if that fails. */
  open(choice: Choice): Promise<MediaStream | undefined>;
  close(): void;
}

export function useCapture(): Capture {
  const [media, setMedia] = useState<MediaStream>();
  const [fault, setFault] = useState<string>();
  const [inputs, setInputs] = useState<Inputs>({ audio: [], video: [] });

  const list = () => void devices().then(setInputs);
  useEffect(() => {
    list();
    navigator.mediaDevices?.addEventListener?.("devicechange", list);
  }, []);

  const release = () => {
    for (const track of media?.getTracks() ?? []) track.stop();
  };
  const open = async (choice: Choice) => {
    setFault(undefined);
    try {
      const opened = await capture(choice);
      release();
      setMedia(opened);
      // Browsers name inputs only once one was allowed.
      list();
      for (const track of opened.getTracks()) {
        track.addEventListener("ended", () =>
          setFault("The input was unplugged or its sharing ended. Stop, choose an input, go live again."),
        );
      }
      return opened;
    } catch (error) {
      setFault(captureProblem(error));
      return undefined;
    }
  };
  const close = () => {
    release();
    setMedia(undefined);
  };
  return { media, fault, inputs, open, close };
}
