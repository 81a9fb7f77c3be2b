// What is published from this page: the plan, the input it takes, and the session while it is on air.
import { useEffect, useState } from "preact/hooks";
import { streamNameFault } from "../api/names";
import { captureFault } from "../webrtc/capture";
import { endPlan, keepPlan, type Plan, rememberedPlan } from "../webrtc/plan";
import type { State } from "../webrtc/session";
import { Publisher } from "../webrtc/whip";
import { type Capture, useCapture } from "./capture";
import { useWindowEvent } from "./window-event";

const IDLE: State = { phase: "idle", problem: undefined };

export interface Publication {
  plan: Plan;
  /** Another name, token or input; what is open already is opened anew with the other input. */
  change(part: Partial<Plan>): void;
  capture: Capture;
  /** Opens the input to look at its level, or closes it again. */
  check(): void;
  /** Why this page cannot capture at all. */
  blocked: string | undefined;
  /** What is wrong with the name. */
  nameFault: string | undefined;
  /** While on air, or on the way there. */
  publisher: Publisher | undefined;
  state: State;
  /** Goes on air, unless something is wrong. */
  start(): void;
  stop(): void;
}

export function usePublication(): Publication {
  const [first] = useState(() => rememberedPlan(location.search));
  const [plan, setPlan] = useState(first.plan);
  const [publisher, setPublisher] = useState<Publisher>();
  const [state, setState] = useState(IDLE);
  const capture = useCapture();
  const blocked = captureFault();
  const nameFault = streamNameFault(plan.name);

  const goLive = async () => {
    const { media } = capture;
    const live = media?.getTracks().every((track) => track.readyState === "live") ? media : await capture.open(plan);
    if (!live) return;
    keepPlan(plan);
    const publisher = new Publisher(plan.name, live, plan.token || undefined, (next) => {
      setState(next);
      // A reload must not repeat what the relay refuses.
      if (next.phase === "refused") endPlan();
    });
    setPublisher(publisher);
    publisher.start();
  };
  const start = () => {
    if (!nameFault && !blocked) void goLive();
  };
  const stop = () => {
    endPlan();
    void publisher?.stop();
    setPublisher(undefined);
    setState(IDLE);
    capture.close();
  };
  const change = (part: Partial<Plan>) => {
    const next = { ...plan, ...part };
    setPlan(next);
    if (!capture.media || publisher || !("source" in part || "audio" in part || "video" in part)) return;
    // A screen is chosen by a click of its own.
    if (next.source === "screen") capture.close();
    else void capture.open(next);
  };
  const check = () => {
    if (capture.media) capture.close();
    else void capture.open(plan);
  };

  useEffect(() => {
    if (first.auto && plan.source !== "screen") start();
  }, []);
  useWindowEvent("pagehide", () => void publisher?.stop(true), [publisher]);
  useWindowEvent("pageshow", (event) => event.persisted && publisher?.start(), [publisher]);
  useWindowEvent("online", () => publisher?.check(), [publisher]);

  return { plan, change, capture, check, blocked, nameFault, publisher, state, start, stop };
}
